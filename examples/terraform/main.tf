# What a recovery site is made of, in the shape that Leeward asks of a Terraform configuration: the
# variables `region` and `environment`, state in a bucket, outputs that say where things are.
#
# It needs no provider, so that Terraform really plans, applies and keeps state on any machine; in a
# configuration of your own the resources of your provider take the place of `terraform_data`.

terraform {
  required_version = ">= 1.10" # locks in the bucket itself

  backend "s3" { # the bucket and its region: buildspec.yml
    key          = "site.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}

variable "region" {
  type        = string
  description = "where the site is made"
}

variable "environment" {
  type        = string
  description = "what everything in it is named by"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,59}$", var.environment))
    error_message = "Names are made of it: small letters, digits and dashes, at most 60."
  }
}

resource "terraform_data" "network" {
  input = { name = "${var.environment}-network", region = var.region, cidr = "10.20.0.0/16" }
}

resource "terraform_data" "database" {
  input = {
    name    = "${var.environment}-database"
    network = terraform_data.network.output.name
    engine  = "postgresql-17"
  }
}

resource "terraform_data" "storage" {
  input = { name = "${var.environment}-assets", region = var.region }
}

resource "terraform_data" "servers" {
  count = 3
  input = {
    name    = "${var.environment}-server-${count.index + 1}"
    network = terraform_data.network.output.name
  }
}

output "region" {
  value = var.region
}

output "environment" {
  value = var.environment
}

output "database" {
  value = terraform_data.database.output.name
}

output "storage" {
  value = terraform_data.storage.output.name
}

output "servers" {
  value = terraform_data.servers[*].output.name
}
