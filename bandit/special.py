"""Functions of probability that numpy lacks: scipy's own, without what else scipy would load.

`import scipy.special` loads numpy's testing and Fortran parts, for arrays of other libraries: 13 MB
and .15 s, where the functions themselves are one module of 1.5 MB. Where a scipy has no such
module, all of it is loaded.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np

_WHOLE = "scipy.special"


def _ufuncs() -> ModuleType:
    """Return the module of functions; the package above it stands empty meanwhile."""
    if _WHOLE not in sys.modules:
        spec, bare = find_spec(_WHOLE), ModuleType(_WHOLE)
        bare.__path__ = list((spec.submodule_search_locations if spec else None) or ())
        sys.modules[_WHOLE] = bare
        try:
            from scipy.special import _ufuncs as found

            if hasattr(found, "ndtr"):
                return found
        except ImportError:
            pass
        finally:
            del sys.modules[_WHOLE]
    import scipy.special as whole

    return whole


_found = _ufuncs()
bdtr: np.ufunc = _found.bdtr
betainc: np.ufunc = _found.betainc
betaincinv: np.ufunc = _found.betaincinv
expit: np.ufunc = _found.expit
log_ndtr: np.ufunc = _found.log_ndtr
ndtr: np.ufunc = _found.ndtr
ndtri: np.ufunc = _found.ndtri
stdtr: np.ufunc = _found.stdtr
stdtrit: np.ufunc = _found.stdtrit
