//! Official checkpoints to safetensors: readers that execute nothing, and maps from official names to ours.
