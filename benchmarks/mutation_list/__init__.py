"""The mutations of benchmarks/mutations.py, by what they break."""

from benchmarks.mutation_list import (
    analysis,
    evaluation,
    images,
    models,
    recipes,
    robustness,
    runs,
    scripts,
    sources,
    weights,
)
from benchmarks.mutation_list.mutation import Mutation as Mutation

MUTATIONS = (
    *models.MUTATIONS,
    *images.MUTATIONS,
    *sources.MUTATIONS,
    *recipes.MUTATIONS,
    *runs.MUTATIONS,
    *weights.MUTATIONS,
    *evaluation.MUTATIONS,
    *robustness.MUTATIONS,
    *analysis.MUTATIONS,
    *scripts.MUTATIONS,
)
