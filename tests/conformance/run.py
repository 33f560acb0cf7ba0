"""Runs Eclipse Paho's interoperability tests, from a checkout of their repository, against an MQTT server.

    python3 run.py CHECKOUT/interoperability HOST PORT [TEST ...]

Each test is a process of its own with a time limit, so that one that hangs does not hide the others. Prints a table of
what passes and what does not, with the last line of the reason. Nothing of theirs is kept in this repository.
"""

import os
import subprocess
import sys
import unittest

SECONDS_MAX = 90
TOPICS = ("TopicA", "TopicA/B", "Topic/C", "TopicA/C", "/TopicA")
FILTERS = ("TopicA/+", "+/C", "#", "/#", "/+", "+/+", "TopicA/#")


def load(name, host, port):
    """Imports a module of theirs and gives it what its own command line would."""
    sys.argv = [name]
    module = __import__(name)
    prefix = "client_test5/" if name == "client_test5" else ""
    module.host, module.port, module.topic_prefix = host, port, prefix
    module.topics = [prefix + topic for topic in TOPICS]
    module.wildtopics = [prefix + topic for topic in FILTERS]
    module.nosubscribe_topics = ("test/nosubscribe",)
    return module


def tests_of(name, host, port):
    names = unittest.defaultTestLoader.getTestCaseNames(load(name, host, port).Test)
    # Theirs, but not named so that it is found.
    return names + (["will_message_test"] if name == "client_test" else [])


def run_one(name, host, port, test):
    result = unittest.TestResult()
    load(name, host, port).Test(test)  # fails early if there is no such test
    suite = unittest.TestSuite([load(name, host, port).Test(test)])
    suite.run(result)
    for _, trace in result.failures + result.errors:
        print(trace)
    return 0 if result.wasSuccessful() else 1


def reason(output):
    lines = [line.strip() for line in output.splitlines()]
    told = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception"))]
    plain = [line for line in told if line != "AssertionError: False != True"]
    if plain and plain[0] != "AssertionError":
        return plain[0]
    asserts = [line for line in lines if line.startswith(("assert ", "self.assert")) and "succeeded" not in line]
    return (asserts or plain or told or lines or ["?"])[0]


def main():
    folder, host, port, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    folder = os.path.abspath(folder)
    sys.path.insert(0, folder)
    if len(wanted) == 1 and "." in wanted[0]:
        os.chdir(folder)
        sys.exit(run_one(*wanted[0].split(".")[:1], host, port, wanted[0].split(".")[1]))
    failed = 0
    for name in ("client_test", "client_test5"):
        listing = "import sys; sys.path[:0] = [%r, %r]; import run; print(*run.tests_of(%r, %r, %d))"
        here = os.path.dirname(os.path.abspath(__file__))
        tests = subprocess.run(
            [sys.executable, "-c", listing % (here, folder, name, host, port)],
            capture_output=True, text=True, check=True, cwd=folder,
        ).stdout.split()
        for test in (test for test in tests if not wanted or test in wanted):
            one = [sys.executable, os.path.abspath(__file__), folder, host, str(port), name + "." + test]
            try:
                done = subprocess.run(one, capture_output=True, text=True, timeout=SECONDS_MAX)
                verdict, output = ("passes" if done.returncode == 0 else "fails"), done.stdout + done.stderr
            except subprocess.TimeoutExpired as expired:
                verdict, output = "hangs", (expired.stdout or b"").decode(errors="replace")
            failed += verdict != "passes"
            print("%-13s %-30s %-7s %s" % (name, test, verdict, "" if verdict == "passes" else reason(output)), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
