"""BiasScope: which heads carry the association, how many to remove, and whether removing them does it."""

from typing import TYPE_CHECKING

from biasgym.deferred import deferred
from biasgym.scope.sweep import Selection, SweepPoint, choose_k, random_heads, saturation, sweep

if TYPE_CHECKING:
    from biasgym.scope.attribution import head_attribution, pair_attribution
    from biasgym.scope.effect import likelihood_effects, margin_effects
    from biasgym.scope.heads import intersection, overlap, ranked, shared_ranking, stability, top_heads, union
    from biasgym.scope.margin import Choice, ask, association_margins
    from biasgym.scope.pairs import ContrastPair, contrast_pairs
    from biasgym.scope.selftest import self_test
    from biasgym.scope.terms import Terms, every_term
    from biasgym.scope.trace import Traces, traces

__getattr__ = deferred(
    __name__,
    {
        "attribution": ("head_attribution", "pair_attribution"),
        "effect": ("likelihood_effects", "margin_effects"),
        "heads": ("intersection", "overlap", "ranked", "shared_ranking", "stability", "top_heads", "union"),
        "margin": ("Choice", "ask", "association_margins"),
        "pairs": ("ContrastPair", "contrast_pairs"),
        "selftest": ("self_test",),
        "terms": ("Terms", "every_term"),
        "trace": ("Traces", "traces"),
    },
)

__all__ = [
    "Choice",
    "ContrastPair",
    "Selection",
    "SweepPoint",
    "Terms",
    "Traces",
    "ask",
    "association_margins",
    "choose_k",
    "contrast_pairs",
    "every_term",
    "head_attribution",
    "intersection",
    "likelihood_effects",
    "margin_effects",
    "overlap",
    "pair_attribution",
    "random_heads",
    "ranked",
    "saturation",
    "self_test",
    "shared_ranking",
    "stability",
    "sweep",
    "top_heads",
    "traces",
    "union",
]
