# Which image a machine starts from, unless it is told: the newest Ubuntu of its
# architecture, or AWS's Deep Learning Base image where there is a GPU, which is
# an Ubuntu with NVIDIA's open drivers, CUDA and a container runtime. AWS and
# Canonical publish the ids of both as public parameters.

locals {
  image_parameters = {
    "amd64"     = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
    "arm64"     = "/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id"
    "amd64 gpu" = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
    "arm64 gpu" = "/aws/service/deeplearning/ami/arm64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
  }

  # The kind of image each machine needs; machines with an image of their own are out.
  image_kinds = {
    for name, machine in var.machines : name => "${machine.extra.arch}${machine.extra.gpu == "" ? "" : " gpu"}" if machine.image == ""
  }

  # GPUs that the open drivers do not know: they came before Turing.
  undriven = ["K80", "M60", "P4", "P40", "P100", "V100"]
}

data "aws_ssm_parameter" "image" {
  for_each = toset(values(local.image_kinds))

  name = local.image_parameters[each.value]
}
