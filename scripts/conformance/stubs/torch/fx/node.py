def _get_qualified_name(function):
    return f"{function.__module__}.{function.__name__}"
