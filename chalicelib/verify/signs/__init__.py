"""Detectors of ransomware: pure functions from facts to signs, and the judgement over them."""
