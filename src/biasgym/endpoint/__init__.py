"""A language model behind an OpenAI-compatible server: OpenAI, vLLM, llama-server and their like.

Questions go out as many at once as the server bears; answers are kept, so that nothing is asked, or paid for, twice.
`faults`, `calls` and `talk` need the extra `judge`.
"""

from biasgym.endpoint.access import access
from biasgym.endpoint.exchange import Answer, Keep, Question, json_objects
from biasgym.endpoint.journal import Journal
from biasgym.endpoint.server import Server

__all__ = ["Answer", "Journal", "Keep", "Question", "Server", "access", "json_objects"]
