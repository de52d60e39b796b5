"""The whole system in one process, on one seed: its clock, its ids, its luck and its broker are the simulation's, and
what it runs is the real thing (the gateway's use-cases, the courier, the consumers, verifier, ledger and notifier, on
their real SQL). Whatever may happen between two steps happens: messages get lost, come twice, late or in another order,
processes die, connections break, clients and stores repeat themselves. When all has come to rest, the books have to be
what a small obvious model says.

    python -m tests.simulation --seed 123 -v      one run, step by step; a seed tells the same story every time
    python -m tests.simulation --minutes 10       as many runs as fit, on all cores

    plan        what users, their apps and the App Store do, and what will go wrong: drawn before anything happens
    apple       the App Store: it signs, states and answers
    database    PostgreSQL, a whole run in one transaction that is thrown away
    bus         the broker, an unreliable one
    processes   the services, wired as their app.py does it, that die and begin anew
    stepping    a run: what can happen next, and the story of what did
    expected    what has to come of it, told by the plan alone
    checks      whether it has
    sabotage    what is broken on purpose, to see the simulation find it
    running     many runs on many cores, and what is left of a failing plan when all is taken out that it fails without

What it does not see: what two transactions at the same moment do to each other (here they come one after the other;
tests/integration has those), HTTP, Celery and the network.
"""
