from .page import write_report
from .rerun_recording import write_recording
from .run_page import write_run_report

__all__ = [
    "write_recording",
    "write_report",
    "write_run_report",
]
