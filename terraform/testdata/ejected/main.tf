# The machines of demo. See README.md.

terraform {
  required_version = ">= 1.6.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.31, < 7.0"
    }
    google = {
      source  = "hashicorp/google"
      version = ">= 7.0, < 8.0"
    }
  }
}

provider "aws" {
  alias       = "us_east_1"
  max_retries = 5
  region      = "us-east-1"

  endpoints {
    ec2 = "http://127.0.0.1:1/aws"
    ssm = "http://127.0.0.1:1/aws"
  }
}

provider "aws" {
  alias  = "us_west_2"
  region = "us-west-2"
}

provider "google" {
  alias   = "us_central1"
  project = "my-project"
  region  = "us-central1"
}

module "aws_us_east_1" {
  source = "./modules/aws"
  providers = {
    aws = aws.us_east_1
  }

  run_id         = var.name
  group_id       = "${var.name}-1"
  ssh_public_key = trimspace(file(pathexpand(var.ssh_public_key_file)))
  ingress_cidrs  = var.ingress_cidrs
  ttl_seconds    = var.ttl_seconds
  disk_type      = ""
  machines = {
    demo-abc123-serve-1 = {
      disk = 0
      extra = {
        arch      = "arm64"
        component = "serve"
      }
      image = ""
      ports = [8000]
      spot  = false
      type  = "c7g.large"
      zone  = ""
    }
    demo-abc123-train-1 = {
      disk = 200
      extra = {
        arch      = "amd64"
        component = "train"
        gpu       = "T4"
        gpus      = 1
      }
      image = ""
      ports = []
      spot  = true
      type  = "g4dn.xlarge"
      zone  = "use1-az1"
    }
  }
  network = ""
  private = false
  role    = ""
  subnets = []
  tags = {
    project = "demo"
  }
}

module "aws_us_west_2" {
  source = "./modules/aws"
  providers = {
    aws = aws.us_west_2
  }

  run_id         = var.name
  group_id       = "${var.name}-2"
  ssh_public_key = trimspace(file(pathexpand(var.ssh_public_key_file)))
  ingress_cidrs  = var.ingress_cidrs
  ttl_seconds    = var.ttl_seconds
  disk_type      = ""
  machines = {
    demo-abc123-load-1 = {
      disk  = 0
      extra = {}
      image = ""
      ports = []
      spot  = false
      type  = "m6i.large"
      zone  = "usw2-az1"
    }
  }
  network = ""
  private = false
  role    = ""
  subnets = []
  tags = {
    project = "demo"
  }
}

module "aws_us_east_1_2" {
  source = "./modules/aws"
  providers = {
    aws = aws.us_east_1
  }

  run_id         = var.name
  group_id       = "${var.name}-3"
  ssh_public_key = trimspace(file(pathexpand(var.ssh_public_key_file)))
  ingress_cidrs  = var.ingress_cidrs
  ttl_seconds    = var.ttl_seconds
  disk_type      = ""
  machines = {
    demo-abc123-more-1 = {
      disk  = 0
      extra = {}
      image = ""
      ports = []
      spot  = false
      type  = "m6i.large"
      zone  = ""
    }
  }
  network = ""
  private = false
  role    = ""
  subnets = []
  tags = {
    project = "demo"
  }
}

module "gcp_us_central1" {
  source = "./modules/gcp"
  providers = {
    google = google.us_central1
  }

  run_id         = var.name
  group_id       = "${var.name}-4"
  ssh_public_key = trimspace(file(pathexpand(var.ssh_public_key_file)))
  ingress_cidrs  = var.ingress_cidrs
  ttl_seconds    = var.ttl_seconds
  machines = {
    demo-abc123-train-2 = {
      disk = 0
      extra = {
        component = "train"
        gpu       = "T4"
        gpus      = 1
      }
      image = ""
      ports = []
      spot  = true
      type  = "n1-standard-8"
      zone  = "us-central1-a"
    }
  }
  tags = {
    project = "demo"
  }
}
