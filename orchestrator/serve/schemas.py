"""The shapes of answers, for the OpenAPI page."""

from pydantic import BaseModel, Field

ARRAY = {"type": "array", "items": {}}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {
                            **ARRAY,
                            "description": "[N, H, W] or [N, 3, H, W]; whole numbers in the units of the data set, "
                            "floats as fractions from 0 to 1",
                        },
                        "tasks": {**ARRAY, "description": "a task for each image, or one for all"},
                    },
                }
            },
            **{
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in ("application/x-npy", "application/x-npz", "image/png")
            },
        },
    }
}


class Error(BaseModel):
    """Why a request was refused."""

    error: str


class Candidate(BaseModel):
    """A task that an image may be of, and its class there."""

    task: int
    label: int = Field(alias="class")
    confidence: float = Field(description="softmax output of the class")
    mask: str = Field(description="sha256 of the packed mask that answered")
    value: float = Field(description="ranks tasks; lower is better")


class Classified(BaseModel):
    """The class of an image under the mask of its task."""

    task: int
    label: int = Field(alias="class")
    confidence: float
    mask: str


class Inferred(Classified):
    """The task that was inferred for an image, and its class there."""

    gap: float | None = Field(description="value of the second best task minus that of the best")
    best: list[Candidate]


class ClassifyAnswer(BaseModel):
    """Answers, in the order of the images, from one generation of masks."""

    run: str
    generation: str
    answers: list[Classified]


class InferAnswer(BaseModel):
    """Answers, in the order of the images, from one generation of masks."""

    run: str
    generation: str
    answers: list[Inferred]


class Task(BaseModel):
    """A task that is served."""

    task: int
    mask: str
    test_accuracy: float
    density: float = Field(description="fraction of the weights that the mask keeps")


class Arrival(BaseModel):
    """Where a task that arrived is."""

    task: int
    state: str = Field(description="training, failed, served or forgotten")
    reason: str | None = None


class Tasks(BaseModel):
    """Some of the tasks served, from ``first`` on."""

    generation: str
    num_tasks: int
    tasks: list[Task]


class Bank(BaseModel):
    """The masks served."""

    run: str
    fingerprint: str
    generation: str = Field(description="the first 16 digits of the joint digest of all masks")
    num_tasks: int
    network: dict[str, object]
    base_network: str = Field(description="sha256 of the fixed weights")
    image_shape: list[int]
    num_classes: int
    scale: float = Field(description="the largest pixel value of the data set")
    mask_bytes: int = Field(description="bytes of a packed mask")
    algorithm: str
    objective: str
    problem: str | None = Field(description="why newer masks cannot be taken up, if so")
