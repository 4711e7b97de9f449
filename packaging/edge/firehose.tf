# Terraform: vended load balancer logs -> Amazon Data Firehose -> a relay of yours. Checked with `terraform fmt`; not applied
# here.
#
# Firehose delivers only to a public HTTPS endpoint on port 443 with a certificate of a public authority, so it cannot reach
# private agents: the endpoint is a relay that runs an agent with [intake.http] (TLS, firehose key) or, for a fleet, writes the
# lines to a file that `breachline forward` reads. Other answers than 200 are tried again for `retry_duration`; then the
# records lie in the bucket below.

variable "endpoint" { type = string } # https://relay.example/firehose
variable "access_key" {
  type      = string
  sensitive = true
}
variable "backup_bucket_arn" { type = string }
variable "role_arn" { type = string } # may write to the backup bucket

resource "aws_kinesis_firehose_delivery_stream" "edge" {
  name        = "breachline-edge"
  destination = "http_endpoint"

  http_endpoint_configuration {
    name               = "breachline"
    url                = var.endpoint
    access_key         = var.access_key
    role_arn           = var.role_arn
    buffering_size     = 1  # MiB
    buffering_interval = 10 # seconds: what an alert may be delayed by
    retry_duration     = 7200
    s3_backup_mode     = "FailedDataOnly"

    request_configuration {
      content_encoding = "GZIP"
    }

    s3_configuration {
      role_arn   = var.role_arn
      bucket_arn = var.backup_bucket_arn
    }
  }
}

# From CloudWatch Logs (WAF, or a balancer whose log is vended there); the agent unpacks that envelope.
resource "aws_cloudwatch_log_subscription_filter" "edge" {
  name            = "breachline-edge"
  log_group_name  = "aws-waf-logs-edge"
  filter_pattern  = ""
  destination_arn = aws_kinesis_firehose_delivery_stream.edge.arn
  role_arn        = var.role_arn
}
