"""The shell function of ``supsup shellenv``: `ray submit SWEEP.yaml [key=value]...` without a script."""

import shlex
from pathlib import Path

# POSIX, for bash, zsh and dash. The body is a subshell, which keeps its variables to itself. Ray joins
# the arguments of a script by spaces and a shell on the cluster reads them, so settings are quoted twice.
TEXT = r"""# From `supsup shellenv`. `type ray` shows it, `unset -f ray` takes it away.
ray() (
  [ "${1-}" = submit ] || { command ray "$@"; exit; }
  shift
  quote() { printf '%s\n' "$1" | sed "s/'/'\\\\''/g; 1s/^/'/; \$s/\$/'/"; }
  script=@SCRIPT@
  sweep='' line='' takes_value=no takes_options=yes has_options=no has_script=no
  for word in "$@"; do
    if [ $takes_value = yes ]; then
      takes_value=no
    elif [ $takes_options = yes ] && [ "${word#-}" != "$word" ]; then
      has_options=yes
      case $word in
        --) takes_options=no ;;
        -n|--cluster-name|-p|--port-forward|--args|--extra-screen-args|--log-style|--log-color) takes_value=yes ;;
      esac
    elif [ -z "$sweep" ]; then
      sweep=$word
      line="$line $(quote "$word")"
      word=$script
    elif [ "${word#-}" = "$word" ]; then
      case ${word%%=*} in "$word"|[!A-Za-z_]*|*[!A-Za-z0-9_.]*) has_script=yes ;; esac
      case $word in *[!A-Za-z0-9_.,:/=+-]*) word=$(quote "$word") ;; esac
    fi
    line="$line $(quote "$word")"
  done
  if [ $has_script = no ] && grep -qs '^cluster_name:' -- "$sweep" && grep -qs '^  sweep:' -- "$sweep"; then
    eval "command ray submit $line"
  elif [ $has_script$has_options = nono ] && grep -qs '^benchmark:' -- "$sweep"; then
    supsup submit "$@" --follow
  else
    command ray submit "$@"
  fi
)
"""


def shell_function() -> str:
    """Return the shell function, with the path of the script that runs a sweep on the cluster."""
    return TEXT.replace("@SCRIPT@", shlex.quote(str(Path(__file__).with_name("job.py"))))
