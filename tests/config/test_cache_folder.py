from pathlib import Path

from glassgpt.config.cache_folder import cache_folder


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("GLASSGPT_CACHE", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "glassgpt"
    monkeypatch.setenv("GLASSGPT_CACHE", "")
    assert cache_folder() == tmp_path / ".cache" / "glassgpt"
    monkeypatch.setenv("GLASSGPT_CACHE", "~/elsewhere")
    assert cache_folder() == tmp_path / "elsewhere"
    assert not (tmp_path / "elsewhere").exists()
