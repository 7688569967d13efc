"""Not yet."""

from starlette.routing import Route

routes: list[Route] = []
