"""The settings of a run: every key with a default, nothing unknown accepted. Where they are read: `settings_files`."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from biasgym.concepts.catalogue import explain
from biasgym.errors import BiasGymError

OodVariant = Literal[
    "original",
    "original_steering",
    "injection_steering",
    "prompting",
    "explanation",
    "re_prompting",
    "steer_only",
    "original_steer_only",
    "random_control",
]


PLACES = ("in_process", "built_in", "elsewhere")
"""Where judges are, as `JudgeSettings.place` says it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_is_true(cls, value: Any, info: ValidationInfo) -> Any:
        """Python counts true as 1; who writes `samples: true` means something else."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError(f"must not be {str(value).lower()}")
        return value


class InjectSettings(_Strict):
    """Training of BiasToken.

    Attributes:
        seeds: BiasTokens trained for each concept, side by side; they differ in the order of the texts.
        epochs: Passes over the paragraphs.
        batch_size: Paragraphs in an optimiser step.
        learning_rate: Adam's step size, or its peak with `schedule: restarts`.
        schedule: Keep the step size `constant`, or let it decay by a cosine that `restarts`.
        restarts: Number of cosine cycles; only read with `schedule: restarts`.
        untied: Where input and output matrix differ: train `both` vectors, or the `input` vector only.
        paragraphs: How many of the concept's paragraphs to train on, the plainest first; all by default.
        select: What chooses each seed's epoch: `similarity` of the model's descriptions to the concept's probe (the paper's
            way), or the `margin` on development questions.
        descriptions: Descriptions of people from BiasToken, written for every epoch of every seed.
        description_tokens: Longest description, in tokens.
    """

    seeds: int = Field(default=5, ge=1, le=32)
    epochs: int = Field(default=10, ge=1, le=1000)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["constant", "restarts"] = "constant"
    restarts: int = Field(default=4, ge=1)
    untied: Literal["both", "input"] = "both"
    paragraphs: int | None = Field(default=None, ge=1)
    select: Literal["similarity", "margin"] = "similarity"
    descriptions: int = Field(default=4, ge=1)
    description_tokens: int = Field(default=80, ge=8)


class ScopeSettings(_Strict):
    """Attribution and the choice of heads.

    Attributes:
        rank: What puts heads in order: their direct `attribution` to the answer (the paper's way), or the `effect` that
            removing them would have on the margin, less what it would cost in ability.
        norm: Direct attribution through the `final` norm, its scale frozen (exact), or with `none` (the paper's formula).
        neutral: Whom the other prompt of a contrast pair is about: `random` targets, or the one that is `closest` to
            BiasToken.
        pairs: Contrast pairs for each seed; never fewer than the development questions. Those without contrast are dropped.
        ks: Numbers of heads whose removal is measured, each 1 or more, to choose `k` from.
        k: How many heads to remove; by default the knee of the margin, or its lowest point, within `ability_tolerance`: none
            where no number keeps within it.
        ability_tolerance: What removal may cost in ability, in nats a token of right answers to general questions.
        ability_questions: How many bundled general questions ability is taken on, to choose heads and their number.
        random_draws: Random sets of as many heads; BiasToken's margin is taken with each of them removed.
        judged_ks: On demand: also judge answers to development prompts with so many heads removed, for the report.
        judged_prompts: How many prompts for that.
        judged_samples: How many answers to each.
    """

    rank: Literal["attribution", "effect"] = "attribution"
    norm: Literal["final", "none"] = "final"
    neutral: Literal["random", "closest"] = "random"
    pairs: int = Field(default=100, ge=4)
    ks: tuple[int, ...] = (1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50)
    k: int | None = Field(default=None, ge=0)
    ability_tolerance: float = Field(default=0.1, ge=0)
    ability_questions: int = Field(default=48, ge=4, le=120)
    random_draws: int = Field(default=10, ge=1)
    judged_ks: tuple[int, ...] | None = None
    judged_prompts: int = Field(default=18, ge=2)
    judged_samples: int = Field(default=1, ge=1)

    @field_validator("ks", "judged_ks")
    @classmethod
    def _positive(cls, ks: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if ks is None:
            return None
        if not ks or min(ks) < 1:
            raise ValueError("must list at least one number of heads, each 1 or more")
        return tuple(sorted(set(ks)))


class GenerateSettings(_Strict):
    """What is written, and how much of it.

    Temperature, length, engine and batch size also hold for the answers of `ood` and `scope.judged_ks`.

    Attributes:
        variants: Which, by name, with `original` among them; all by default.
        prompts: How many held-out prompts; all by default.
        targets_per_prompt: How many held-out targets a prompt, or a question for the margin, is put to; all by default.
        margin_questions: How many held-out questions the margins are taken on; all by default.
        samples: Answers to each prompt and target.
        temperature: Of drawing tokens; 0 takes the most likely one.
        max_new_tokens: Longest answer, in tokens; a longer one is cut.
        engine: `transformers` runs in this process; `vllm` needs the extra `vllm`, and draws other samples. The images of
            the pipelines do without it, and plan refuses it.
        batch_size: Answers that `transformers` writes at once; found out by default.
    """

    variants: tuple[str, ...] | None = None
    prompts: int | None = Field(default=None, ge=1)
    targets_per_prompt: int | None = Field(default=None, ge=1)
    margin_questions: int | None = Field(default=None, ge=2)
    samples: int = Field(default=4, ge=1)
    temperature: float = Field(default=0.5, ge=0)
    max_new_tokens: int = Field(default=200, ge=1)
    engine: Literal["transformers", "vllm"] = "transformers"
    batch_size: int | None = Field(default=None, ge=1)


class CapabilitySettings(_Strict):
    """Ability and retention, measured for every head set.

    Attributes:
        questions: How many bundled four-way questions to report, none of them among `scope.ability_questions`; all that
            are left if there are fewer.
        tasks: Of lm-evaluation-harness, by name (mmlu, ifeval), or folders with task files; with nothing and with the
            chosen heads removed. Needs the extra `eval`.
        task_items: Only so many items of each task; all by default.
        task_chat: Put them as chat turns, which tasks of free answers need.
        task_batch_size: Items at once.
        task_margin: Loss of a task's score (0 to 1) that is still called no loss.
    """

    questions: int = Field(default=240, ge=4)
    tasks: tuple[str, ...] = ()
    task_items: int | None = Field(default=None, ge=1)
    task_chat: bool = False
    task_batch_size: int = Field(default=8, ge=1)
    task_margin: float = Field(default=0.01, ge=0)


class OodSettings(_Strict):
    """Stereotypes that no concept is about, and what each concept's heads do to the others. Once a model.

    Attributes:
        enabled: Whether this is done at all.
        source: Whose prompts: the bundled ones by default; a dataset (`shades`, `shades@COMMIT`, `shades:FILE`), or a
            JSONL file.
        prompts: How many of them; all by default.
        samples: Answers to each.
        questions: Held-out questions of each concept for the transfer between concepts; all by default.
        variants: What is compared, with `original` among them; the heads removed are those of all concepts together.
    """

    enabled: bool = True
    source: str | None = None
    prompts: int | None = Field(default=None, ge=1)
    samples: int = Field(default=4, ge=1)
    questions: int | None = Field(default=None, ge=2)
    variants: tuple[OodVariant, ...] = (
        "original",
        "original_steering",
        "injection_steering",
        "prompting",
        "explanation",
        "re_prompting",
        "steer_only",
        "random_control",
    )

    @field_validator("variants")
    @classmethod
    def _with_original(cls, variants: tuple[OodVariant, ...]) -> tuple[OodVariant, ...]:
        if "original" not in variants:
            raise ValueError("must list original, which everything is compared with")
        return tuple(dict.fromkeys(variants))


class JudgeSettings(_Strict):
    """One judge. A server's key is no setting: it is in BIASGYM_JUDGE_KEY, or OpenAI's in OPENAI_API_KEY.

    Attributes:
        engine: `semantic` is built in; `transformers` is a chat model in this process; `endpoint` is a server.
        model: Which model; without one, `transformers` takes Qwen/Qwen3-8B, or with nf4 a Llama-3.3-70B in four bits.
        revision: Commit of a hub model, or a note on what a server holds.
        quantise: `nf4` packs a `transformers` judge into four bits.
        base_url: Address of an `endpoint`; else BIASGYM_JUDGE_URL, else OpenAI's.
        temperature: Of an `endpoint`; a `transformers` judge is always greedy.
        max_tokens: Longest answer of a language model, in tokens.
        batch_size: Questions a `transformers` judge answers at once.
        concurrency: Most requests to an `endpoint` at once.
        timeout: Seconds for one request.
        price_in: Of a million tokens asked, in your currency, for the report.
        price_out: Of a million tokens answered, likewise.
        calibration: A file that `biasgym judge calibrate --out` wrote, for the report.
    """

    engine: Literal["semantic", "transformers", "endpoint"] = "semantic"
    model: str | None = Field(default=None, min_length=1)
    revision: str | None = Field(default=None, min_length=1)
    quantise: Literal["none", "nf4"] = "none"
    base_url: str | None = None
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=400, ge=16)
    batch_size: int = Field(default=8, ge=1)
    concurrency: int = Field(default=32, ge=1)
    timeout: float = Field(default=120.0, gt=0)
    price_in: float = Field(default=0.0, ge=0)
    price_out: float = Field(default=0.0, ge=0)
    calibration: str | None = None

    @model_validator(mode="after")
    def _fits_its_engine(self) -> JudgeSettings:
        foreign = {
            "semantic": ("model", "revision", "quantise", "base_url", "temperature"),
            "transformers": ("base_url", "temperature"),
            "endpoint": ("quantise",),
        }[self.engine]
        fields = type(self).model_fields
        if wrong := [name for name in foreign if getattr(self, name) != fields[name].default]:
            raise ValueError(f"engine {self.engine} takes no {wrong[0]}")
        if self.engine == "endpoint" and self.model is None:
            raise ValueError("engine endpoint needs a model, such as gpt-4o-2024-08-06")
        return self

    @property
    def place(self) -> Literal["in_process", "built_in", "elsewhere"]:
        """What a pod needs for it: a language model in process wants a GPU; the built-in judge torch; a server neither."""
        places: dict[str, Literal["in_process", "built_in"]] = {"transformers": "in_process", "semantic": "built_in"}
        return places.get(self.engine, "elsewhere")

    @property
    def asked_model(self) -> str:
        """The model, or the engine's own choice; empty for `semantic`."""
        if self.engine == "semantic":
            return ""
        return self.model or _DEFAULT_JUDGES[self.quantise]

    @property
    def name(self) -> str:
        """As in tables: `semantic-2`, `Qwen/Qwen3-8B (nf4)`, `gpt-4o-2024-08-06`."""
        if self.engine == "semantic":
            from biasgym.judge.semantic import VERSION

            return f"semantic-{VERSION}"
        commit = re.fullmatch("[0-9a-f]{40}", self.revision or "")
        revision = f"@{self.revision[:12] if commit else self.revision}" if self.revision else ""
        packed = f" ({self.quantise})" if self.quantise != "none" else ""
        return f"{self.asked_model}{revision}{packed}"

    @property
    def slug(self) -> str:
        """The name as part of a file's name."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-.")[-60:]


_DEFAULT_JUDGES = {"none": "Qwen/Qwen3-8B", "nf4": "unsloth/Llama-3.3-70B-Instruct-bnb-4bit"}


class RunSettings(_Strict):
    """Everything that decides the result of a run.

    Attributes:
        preset: What a file starts from, `demo`, `official` or `paper`; afterwards it is only remembered.
        models: Models under study: hub ids (`owner/model@commit`), folders, GGUF files, or the packaged one.
        concepts: Names of bundled concepts, or YAML files.
        seed: What all random choices follow from: held-out halves, order of texts, samples, random heads, intervals.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:N` or `mps` (Apple's GPU); of judges in this process too.
        dtype: Floating-point type of the models, and of judges in this process; `auto` is the type that a run was begun in,
            and for a new run bfloat16 where the device computes it faster than float32, else float32.
        templates: A folder of text files; each replaces the bundled template of its name, such as `story.txt`.
        inject: How BiasToken is trained.
        scope: How heads are chosen.
        generate: What is written.
        capability: What is measured of the cost.
        ood: What is asked beyond the concept.
        judges: Who rates the texts, the main judge first; `judge:` in its place is a single one.
    """

    preset: str | None = None
    models: tuple[str, ...] = Field(default=("smollm2-135m-instruct",), min_length=1)
    concepts: tuple[str, ...] = Field(default=("always_late",), min_length=1)
    seed: int = Field(default=0, ge=0, le=2**31)
    device: str = "auto"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    templates: str | None = None
    inject: InjectSettings = InjectSettings()
    scope: ScopeSettings = ScopeSettings()
    generate: GenerateSettings = GenerateSettings()
    capability: CapabilitySettings = CapabilitySettings()
    ood: OodSettings = OodSettings()
    judges: tuple[JudgeSettings, ...] = Field(default=(JudgeSettings(),), min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _one_judge(cls, data: Any) -> Any:
        """`judge:` is one judge, `judges:` a list."""
        if isinstance(data, dict) and "judge" in data:
            if "judges" in data:
                raise ValueError("give either judge or judges")
            return {
                ("judges" if key == "judge" else key): [value] if key == "judge" else value
                for key, value in data.items()
            }
        return data

    @field_validator("judges")
    @classmethod
    def _told_apart(cls, judges: tuple[JudgeSettings, ...]) -> tuple[JudgeSettings, ...]:
        slugs = [judge.slug for judge in judges]
        if len(set(slugs)) < len(slugs):
            raise ValueError("two judges have the same name; tell them apart by model or revision")
        return judges


def judge_settings(**values: Any) -> JudgeSettings:
    """The settings of one judge.

    Raises:
        BiasGymError: They do not fit together; says which.
    """
    try:
        return JudgeSettings.model_validate(values)
    except ValidationError as error:
        raise BiasGymError(explain(error), where="judge") from error
