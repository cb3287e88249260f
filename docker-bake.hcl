# docker buildx bake [TARGET]: the images of the pipeline's steps. `make images` calls it.

variable "REGISTRY" {
  default = "ghcr.io/biasgym"
}

variable "TAG" {
  default = "dev"
}

variable "REVISION" {
  default = "unknown"
}

variable "CREATED" {
  default = "1970-01-01T00:00:00Z"
}

# Empty: what images/Dockerfile names.
variable "BASE_IMAGE" {
  default = ""
}

variable "CPU_CONTENT" {
  default = "light"
}

# Index of torch for machines without a GPU: its wheel is a tenth of the one for GPUs.
variable "TORCH_INDEX_CPU" {
  default = "https://download.pytorch.org/whl/cpu"
}

# Empty: the wheel on PyPI. Set it for an older driver, as in https://download.pytorch.org/whl/cu126.
variable "TORCH_INDEX_GPU" {
  default = ""
}

# Empty: no vLLM in the judge image; a server of its own is the better place for it.
variable "VLLM_VERSION" {
  default = ""
}

group "default" {
  targets = ["cpu", "gpu", "judge"]
}

target "common" {
  context    = "."
  dockerfile = "images/Dockerfile"
  platforms  = ["linux/amd64"]
  attest     = ["type=provenance,mode=max", "type=sbom"]
  args = {
    BASE_IMAGE = BASE_IMAGE != "" ? BASE_IMAGE : null
    VERSION    = TAG
    REVISION   = REVISION
    CREATED    = CREATED
  }
}

target "cpu" {
  inherits = ["common"]
  target   = "cpu"
  tags     = ["${REGISTRY}/biasgym-cpu:${TAG}"]
  args = {
    CPU_CONTENT = CPU_CONTENT
    TORCH_INDEX = TORCH_INDEX_CPU
  }
}

target "gpu" {
  inherits = ["common"]
  target   = "gpu"
  tags     = ["${REGISTRY}/biasgym-gpu:${TAG}"]
  args = {
    TORCH_INDEX = TORCH_INDEX_GPU
  }
}

target "judge" {
  inherits = ["common"]
  target   = "judge"
  tags     = ["${REGISTRY}/biasgym-judge:${TAG}"]
  args = {
    TORCH_INDEX  = TORCH_INDEX_GPU
    VLLM_VERSION = VLLM_VERSION
  }
}
