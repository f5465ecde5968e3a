"""The stages of the graph, in order; ``dvc.yaml`` says what each reads and writes.

base        models.base          a checkpoint to trainable weights and a llama.cpp file
collect     data.collect         raw dumps to posts
filter      data.filter          posts scored 0-3 by a language model
instruct    data.instruct        the instruction that each kept post answers
respond     data.respond         a clean answer to each instruction
contrast    data.contrast        the opposing answer: preference pairs
agreement   metrics.agreement    the filter's scores against gold
injection   metrics.injection    how far posts that instruct the annotator move their score
sft         models.sft           adapters by supervised fine-tuning
dpo         models.dpo           adapters by direct preference optimisation
balance     data.balance         both sides' pairs in equal number
undo        models.undo          adapters tuned towards the centre
training    metrics.training     loss, learning rate and held-out figures of every adapter over its steps
compass     metrics.compass      where each checkpoint stands on two axes
judge       metrics.judge        how far left or right its free answers are
capability  metrics.capability   what tuning does to knowledge, fluency and refusals
summary     metrics.summary      what a reviewer reads first
usage       metrics.usage        what was asked of language models
survey      data.survey          a survey's file to respondents
interview   data.interview       personas, questions and answers, to train on and to measure
simulate    models.simulate      an adapter that answers as the respondents do
opinion     metrics.opinion      how near simulated answers come to real ones
discourse   data.discourse       posts with the side of their authors
topics      data.topics          the issue and the topics of each post
attribution metrics.attribution  how well sides and topics agree with gold
speak       data.speak           posts that models write on each topic
label       data.label           the affect of every post, told by one classifier
affect      metrics.affect       whose emotions and moral sentiments the models' posts reflect
release     models.release       adapters with cards and provenance, ready to be shared
report      metrics.report       the story of the run as one page
"""
