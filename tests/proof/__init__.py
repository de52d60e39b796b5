"""The proof: the whole system under load while it is killed, frozen, restarted, wiped and cut off; then the reckoning.

    python -m tests.proof --purchases 20000 --faults 100 --seed 20261122

What is real: every process of ours under the product's own supervisor, PostgreSQL with its usual durability, Redis (or
a broker that is given), and the roads between them (`network`, `proxy`), which can be cut. The simulator is the App
Store, and the app's backend is a receiver of ours (`backend`). `world` is all of it together.

- `stories`, `load`, `clients`: what customers, their apps and the store do, planned by the seed; `model` keeps what has
  to become of it
- `faults`, `chaos`: what befalls the system, planned by the seed, and how long it takes to recover
- `evidence`, `check`: what is found afterwards, beside the model: what is lost, doubled, wrong, parked, untold
- `proving`: all of it in its order; `table`: what it comes to
- `forgetful`: a courier that hands nothing over twice. With it the proof has to fail: it can.

Timing is the machine's, so two runs of one seed have the same stories and the same faults, and no more.
"""
