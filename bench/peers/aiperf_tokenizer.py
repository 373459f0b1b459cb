"""A tokenizer for AIPerf that needs no network: a token a byte. Run with AIPerf's own Python.

    python bench/peers/aiperf_tokenizer.py DIRECTORY
"""

import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

letters = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate([*letters, "<end>"])}, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, eos_token="<end>", bos_token="<end>", pad_token="<end>"
).save_pretrained(sys.argv[1])
