"""The stages of the graph, in order; ``dvc.yaml`` says what each reads and writes.

base       models.base        a checkpoint to trainable weights and a llama.cpp file
collect    data.collect       raw dumps to posts
filter     data.filter        posts scored 0-3 by a language model
instruct   data.instruct      the instruction that each kept post answers
respond    data.respond       a clean answer to each instruction
contrast   data.contrast      the opposing answer: preference pairs
agreement  metrics.agreement  the filter's scores against gold
injection  metrics.injection  how far posts that instruct the annotator move their score
sft        models.sft         adapters by supervised fine-tuning
dpo        models.dpo         adapters by direct preference optimisation
compass    metrics.compass    where each checkpoint stands on two axes
judge      metrics.judge      how far left or right its free answers are
summary    metrics.summary    what a reviewer reads first
usage      metrics.usage      what was asked of language models
"""
