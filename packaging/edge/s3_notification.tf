# Terraform for s3_notification.py: the function, its role, and the bucket's notification. Checked with `terraform fmt`; not
# applied here.

variable "bucket" { type = string }          # where the load balancer writes its access log
variable "subnets" { type = list(string) }   # from which the agents can be reached
variable "security_group" { type = string }  # may reach port 8514 of the agents
variable "token_parameter" { type = string } # SSM SecureString with the agents' bearer token

data "archive_file" "code" {
  type        = "zip"
  output_path = "${path.module}/s3_notification.zip"
  source_dir  = "${path.module}/function" # s3_notification.py and agents-ca.pem
}

resource "aws_lambda_function" "edge" {
  function_name                  = "breachline-edge"
  role                           = aws_iam_role.edge.arn
  runtime                        = "python3.12"
  handler                        = "s3_notification.handler"
  filename                       = data.archive_file.code.output_path
  source_code_hash               = data.archive_file.code.output_base64sha256
  timeout                        = 300
  memory_size                    = 512
  reserved_concurrent_executions = 4
  vpc_config {
    subnet_ids         = var.subnets
    security_group_ids = [var.security_group]
  }
  environment {
    variables = {
      AGENT_URL       = "https://{target}:8514/v1/lines"
      TOKEN_PARAMETER = var.token_parameter
      CA_FILE         = "/var/task/agents-ca.pem"
    }
  }
}

# Lambda tries twice more by itself; what fails for longer waits here to be sent again.
resource "aws_sqs_queue" "failed" {
  name                      = "breachline-edge-failed"
  message_retention_seconds = 1209600
}

resource "aws_lambda_function_event_invoke_config" "edge" {
  function_name          = aws_lambda_function.edge.function_name
  maximum_retry_attempts = 2
  destination_config {
    on_failure { destination = aws_sqs_queue.failed.arn }
  }
}

resource "aws_iam_role" "edge" {
  name = "breachline-edge"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "lambda.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy_attachment" "vpc" {
  role       = aws_iam_role.edge.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"
}

resource "aws_iam_role_policy" "edge" {
  role = aws_iam_role.edge.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "s3:GetObject", Resource = "arn:aws:s3:::${var.bucket}/AWSLogs/*" },
      { Effect = "Allow", Action = "ssm:GetParameter", Resource = "arn:aws:ssm:*:*:parameter${var.token_parameter}" },
      { Effect = "Allow", Action = "sqs:SendMessage", Resource = aws_sqs_queue.failed.arn },
    ]
  })
}

resource "aws_lambda_permission" "bucket" {
  function_name = aws_lambda_function.edge.function_name
  action        = "lambda:InvokeFunction"
  principal     = "s3.amazonaws.com"
  source_arn    = "arn:aws:s3:::${var.bucket}"
}

resource "aws_s3_bucket_notification" "logs" {
  bucket = var.bucket
  lambda_function {
    lambda_function_arn = aws_lambda_function.edge.arn
    events              = ["s3:ObjectCreated:*"]
    filter_prefix       = "AWSLogs/"
  }
  depends_on = [aws_lambda_permission.bucket]
}
