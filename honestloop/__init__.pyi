from honestloop.checking import Report as Report
from honestloop.checking import check as check

__version__: str
pytest_plugins: tuple[str, ...]
