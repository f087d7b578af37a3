"""An exported file with smaller numbers: int8 where it is computed with them, float16 where they are only kept."""
