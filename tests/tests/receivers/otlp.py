"""Exports each argument as a log record with the official SDK: otlp.py URL COMPRESSION LINE..."""
import sys

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

url, compression, *lines = sys.argv[1:]
provider = LoggerProvider()
exporter = OTLPLogExporter(endpoint=url, compression=Compression(compression))
provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
logger = provider.get_logger("access")
for line in lines:
    logger.emit(LogRecord(timestamp=1, body=line, severity_number=SeverityNumber.INFO))
provider.shutdown()
