from honestloop.checking import Report as Report
from honestloop.checking import check as check
from honestloop.recorder import Recorder as Recorder

__version__: str
pytest_plugins: tuple[str, ...]
