"""A model of your own, as docs/models.md says it: saved, named and served."""

import re
from pathlib import Path

import pytest
import torch
from inference_service.sources.kinds import read_sources

PAGE = Path(__file__).parents[3] / "docs" / "models.md"


def test_a_model_of_ones_own_is_saved_and_read_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = PAGE.read_text().partition("## A model of your own\n")[2].partition("\n## ")[0]
    python, models = (re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL)[0] for kind in ("python", "yaml"))
    monkeypatch.chdir(tmp_path)
    exec(python, {})
    Path("birds.txt").write_text("robin\nblackbird\nmagpie\n")
    Path("models.yaml").write_text(models)
    loaded = [source.load() for source in read_sources(Path("models.yaml"), tmp_path / "kept")]
    assert [model.labels for model in loaded] == [("robin", "blackbird", "magpie")] * 2
    pictures = torch.rand(3, 3, 224, 224)
    state_dict, program = (model.forward(pictures) for model in loaded)
    torch.testing.assert_close(state_dict, program, atol=1e-4, rtol=1e-3)
