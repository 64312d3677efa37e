"""Results in object stores: finished files are sent as they are finished, and read from there."""

from fastplast.stores.pull import pull, pull_to_cache
from fastplast.stores.push import Pusher, push
from fastplast.stores.store import check_store, is_url

__all__ = ["Pusher", "check_store", "is_url", "pull", "pull_to_cache", "push"]
