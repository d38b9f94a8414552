"""What is kept between runs so that no work is lost: finished steps, trainings on their way, decoded images.

Everything lies in one folder, which may be deleted at any time: what is missing is computed again. `keys` says what a
step depends on, `store` keeps finished steps, `checkpoints` what a training has reached, and `upkeep` lists and evicts.
"""
