"""Torch as the back end: what is float32 is float32, and what may be bfloat16 is kept so."""

from dataclasses import replace

import pytest
import torch

from engine.artifact import Artifact
from engine.backend import Prepared
from engine.errors import ArtifactError
from engine.stacked import reducible
from engine.torch_backend import TorchBackend
from tests.models import tiny_artifact

SIDE = 64


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return tiny_artifact(real="lite", input_px=SIDE)


@pytest.fixture(scope="module")
def backend() -> TorchBackend:
    return TorchBackend(torch.device("cpu"), bf16=True)


@pytest.fixture(scope="module")
def prepared(backend: TorchBackend, artifact: Artifact) -> Prepared:
    made = backend.prepare(artifact)
    assert made.teacher.endswith("/bf16")
    return made


def dtypes(module: torch.nn.Module) -> set[torch.dtype]:
    return {weight.dtype for _, layer in reducible(module) for weight in layer.parameters()}


def test_weights_kept_in_bf16_answer_as_those_that_are_cast_each_time(
    backend: TorchBackend, artifact: Artifact, prepared: Prepared
) -> None:
    assert dtypes(prepared.network) == {torch.bfloat16}
    assert prepared.network.head.logit.weight.dtype == torch.float32
    images = torch.rand(2, 3, SIDE, SIDE)
    features = backend.features(prepared.teacher, images)
    kept = backend.raw_maps([(prepared, slice(0, 2))], images, features)
    network, teacher = backend.network(artifact), backend.teacher(artifact.teacher)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        cast = network(images, tuple(teacher(images)))
    assert torch.equal(kept, cast)


def test_float32_does_not_notice_that_another_model_runs_in_bf16(
    backend: TorchBackend, artifact: Artifact, prepared: Prepared
) -> None:
    assert dtypes(backend.teacher(artifact.teacher)) == {torch.float32}
    alone = TorchBackend(torch.device("cpu"), bf16=False)
    exact = alone.reference(artifact, alone.network(artifact))
    assert torch.equal(backend.reference(artifact, backend.network(artifact)), exact)


@pytest.mark.parametrize("bf16", [False, True])
def test_finite_weights_that_answer_no_numbers_are_refused(artifact: Artifact, bf16: bool) -> None:
    flat = replace(artifact, state={**artifact.state, "part_std": torch.zeros(7)})
    with pytest.raises(ArtifactError, match="lite@1 answers with values that are not numbers"):
        TorchBackend(torch.device("cpu"), bf16=bf16).prepare(replace(flat, name="lite"))


def test_float32_on_a_gpu_is_not_rounded_in_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    TorchBackend(torch.device("cpu"))
    assert torch.backends.cudnn.allow_tf32
    TorchBackend(torch.device("cuda", 0))
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
