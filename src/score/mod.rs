//! Logits and positions to confidences.
