"""The doctor: what usually goes wrong in a distillation, looked for and told with evidence, cause and cure.

It takes plain objects (splits, modules, logits, metrics) and gives Findings; it trains nothing and writes nothing.
"""

from limbeck.doctor.finding import Finding, ordered

__all__ = ["Finding", "ordered"]
