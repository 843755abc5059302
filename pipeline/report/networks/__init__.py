"""Whole networks on the page: what the stage finetune left, as the tables and figures of three papers."""
