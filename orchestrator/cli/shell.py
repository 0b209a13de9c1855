"""``supsup shellenv``: a shell function with which `ray submit SWEEP.yaml` needs no script."""

from pathlib import Path

TEXT = """\
# From `supsup shellenv`. `type ray` shows it, `unset -f ray` takes it away.
ray() {{
  if [ $# -eq 2 ] && [ "$1" = submit ] && grep -qs '^cluster_name:' "$2" && grep -qs '^  sweep:' "$2"; then
    command ray submit "$2" '{script}'
  elif [ $# -eq 2 ] && [ "$1" = submit ] && grep -qs '^benchmark:' "$2"; then
    supsup submit "$2" --follow
  else
    command ray "$@"
  fi
}}
"""


def shell_function() -> str:
    """Return the function, with the path of the script that runs a sweep on the cluster."""
    script = Path(__file__).with_name("job.py")
    return TEXT.format(script=str(script).replace("'", "'\\''"))
