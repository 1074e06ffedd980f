# Lets a process run for a share of the time alone, until its own input ends: a site with that share of its
# capacity. Arguments: the process, the share.
import os
import select
import signal
import sys

PROCESS, SHARE = int(sys.argv[1]), float(sys.argv[2])
TURN_S = 0.06


def ended_within(seconds):
    return bool(select.select([sys.stdin], [], [], seconds)[0])


try:
    while True:
        os.kill(PROCESS, signal.SIGSTOP)
        if ended_within(TURN_S * (1 - SHARE)):
            break
        os.kill(PROCESS, signal.SIGCONT)
        if ended_within(TURN_S * SHARE):
            break
finally:
    os.kill(PROCESS, signal.SIGCONT)
