"""TRL and PEFT at the work of ``sft`` and ``dpo``, in an environment of their own: ``python -m benchmarks.training_peer <command> <folder>``.

``folder`` holds ``job.json`` (see :func:`benchmarks.training.job`) and, for all commands but ``train``, an adapter in PEFT's form:

train      trains a fresh adapter and prints a line of JSON with seconds and peak memory
gradients  takes the adapter through one step on all samples as one batch; writes loss.json and gradients.safetensors (in PEFT's names)
logits     evaluates the texts with the adapter; writes logits.safetensors

Nothing here imports Plumbline: PEFT refuses the torchao that torchtune needs. Samples come tokenised, so that both sides see the same tokens.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

Job = dict[str, Any]
IGNORED = -100


class Recorded:
    """A trainer that keeps the loss and, if asked to, the gradients of its steps."""

    keep_gradients = False

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward pass of one batch."""
        loss = super().training_step(*args, **kwargs)
        self.losses = [*getattr(self, "losses", []), float(loss)]
        if self.keep_gradients:
            self.gradients = {name: parameter.grad.clone() for name, parameter in self.model.named_parameters() if parameter.grad is not None}
        return loss


class Sft(Recorded, SFTTrainer):
    """TRL's trainer as it is."""


class Dpo(Recorded, DPOTrainer):
    """TRL's trainer for pairs that are tokenised already, which it would do itself; the time of its reference pass is kept."""

    reference_seconds = 0.0
    reference_cpu_seconds = 0.0

    def _prepare_dataset(self, dataset: datasets.Dataset, *_args: Any, **_kwargs: Any) -> datasets.Dataset:
        return dataset

    def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> datasets.Dataset:
        start, used = time.perf_counter(), time.process_time()
        found = super()._precompute_ref_logps(*args, **kwargs)
        self.reference_seconds, self.reference_cpu_seconds = time.perf_counter() - start, time.process_time() - used
        return found


def tokenizer() -> PreTrainedTokenizerFast:
    """TRL asks for one even where it has nothing to tokenise; only its padding token is used."""
    words = Tokenizer(models.WordLevel({"<end>": 0}, unk_token="<end>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>", unk_token="<end>")


def rows(job: Job) -> datasets.Dataset:
    """The job's samples with TRL's columns."""
    if job["task"] == "sft":
        return datasets.Dataset.from_list([{"input_ids": s["tokens"], "labels": [IGNORED] * s["start"] + s["tokens"][s["start"] :]} for s in job["samples"]])
    return datasets.Dataset.from_list(
        [{"prompt_ids": c["tokens"][: c["start"]], "chosen_ids": c["tokens"][c["start"] :], "rejected_ids": r["tokens"][r["start"] :]} for c, r in job["pairs"]]
    )


def trainer(job: Job, folder: Path) -> Sft | Dpo:
    """The trainer with a fresh adapter."""
    settings = {
        "output_dir": str(folder / "output"),
        "use_cpu": True,
        "bf16": job["precision"] == "bf16",
        "num_train_epochs": job["epochs"],
        "per_device_train_batch_size": job["batch_size"],
        "gradient_checkpointing": job["checkpointing"],
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "cosine",
        "max_grad_norm": job["clip"],
        "weight_decay": job["weight_decay"],
        "max_length": None,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": job["seed"],
        "model_init_kwargs": {"dtype": job["weights"]},
    }
    lora = LoraConfig(r=job["rank"], lora_alpha=job["alpha"], lora_dropout=0.0, target_modules=job["targets"], task_type="CAUSAL_LM")
    shared = {"train_dataset": rows(job), "processing_class": tokenizer(), "peft_config": lora}
    if job["task"] == "sft":
        return Sft(job["base"], SFTConfig(**settings), **shared)
    return Dpo(job["base"], args=DPOConfig(**settings, beta=job["beta"], precompute_ref_log_probs=job["precompute"]), **shared)


def train(job: Job, folder: Path) -> None:
    """Train, write the adapter and report; making the trainer is not timed, its reference pass is."""
    run = trainer(job, folder)
    start, used = time.perf_counter(), time.process_time()
    run.train()
    run.save_model(str(folder / "adapter"))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - used
    if isinstance(run, Dpo):
        seconds, cpu_seconds = seconds + run.reference_seconds, cpu_seconds + run.reference_cpu_seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak, "steps": len(run.losses), "loss": run.losses[-1]}))


def gradients(job: Job, folder: Path) -> None:
    """One step from the adapter that lies in the folder."""
    run = trainer(job, folder)
    found = set_peft_model_state_dict(run.model, load_file(folder / "adapter" / "adapter_model.safetensors"))
    assert not found.unexpected_keys, found.unexpected_keys
    run.keep_gradients = True
    run.train()
    save_file({name.replace(".default.", "."): value for name, value in run.gradients.items()}, folder / "gradients.safetensors")  # as PEFT writes them
    (folder / "loss.json").write_text(json.dumps(run.losses[0]))


def logits(job: Job, folder: Path) -> None:
    """Logits [s, v] of every text, in float32."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32), str(folder / "adapter"))
    model.eval()
    with torch.no_grad():
        found = {str(i): model(torch.tensor([sample["tokens"]])).logits[0].contiguous() for i, sample in enumerate(job["samples"])}
    save_file(found, folder / "logits.safetensors")


if __name__ == "__main__":
    command, where = {"train": train, "gradients": gradients, "logits": logits}[sys.argv[1]], Path(sys.argv[2])
    command(json.loads((where / "job.json").read_text()), where)
