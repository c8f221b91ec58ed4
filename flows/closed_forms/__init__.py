"""The closed forms of the flows: each declared once, proved by sympy, and run as it was proved.

On the aligned manifold, B = U_I diag(b) Q and A = Q^T diag(a) V_I^T with Q orthogonal, every
spectral flow decouples: E = U_I (ab - sigma) V_I^T, so G_B = U_I diag((ab - sigma) a) Q, and a
spectral function phi acts on the diagonal alone: db/dt = phi((sigma - ab) a), da/dt =
phi((sigma - ab) b). The forms solve these.
"""

from flows.closed_forms import gradient_flow as _gradient_flow
from flows.closed_forms import lag as _lag
from flows.closed_forms import regularised as _regularised
from flows.closed_forms import smoothed as _smoothed
from flows.closed_forms import unit_rate as _unit_rate
from flows.closed_forms.form import ClosedForm
from flows.closed_forms.gradient_flow import (
    gradient_flow_balanced,
    gradient_flow_balanced_arrival,
    gradient_flow_lora,
    gradient_flow_lora_arrival,
)
from flows.closed_forms.lag import (
    escape_lag,
    lag_bound,
    lag_majorant,
    rate_deviation,
    rate_deviation_bound,
)
from flows.closed_forms.quadrature import smoothed_arrival, smoothed_lag, smoothed_state
from flows.closed_forms.regularised import regularised_gradient_flow, shrunk
from flows.closed_forms.unit_rate import (
    opposite_signs,
    opposite_signs_arrival,
    same_sign,
    same_sign_arrival,
    unit_rate_arrival,
    unit_rate_balanced,
)

CLOSED_FORMS: tuple[ClosedForm, ...] = (
    *_unit_rate.FORMS,
    *_smoothed.FORMS,
    *_lag.FORMS,
    *_gradient_flow.FORMS,
    *_regularised.FORMS,
)

__all__ = [
    "CLOSED_FORMS",
    "ClosedForm",
    "escape_lag",
    "gradient_flow_balanced",
    "gradient_flow_balanced_arrival",
    "gradient_flow_lora",
    "gradient_flow_lora_arrival",
    "lag_bound",
    "lag_majorant",
    "opposite_signs",
    "opposite_signs_arrival",
    "rate_deviation",
    "rate_deviation_bound",
    "regularised_gradient_flow",
    "same_sign",
    "same_sign_arrival",
    "shrunk",
    "smoothed_arrival",
    "smoothed_lag",
    "smoothed_state",
    "unit_rate_arrival",
    "unit_rate_balanced",
]
