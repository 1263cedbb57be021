"""Templates for Helium: loops in TensorIR around calls of the routines in `targets/firmware/helium`."""

from graphopt.targets.schedules.templates.helium.addition import HeliumAddition
from graphopt.targets.schedules.templates.helium.convolution import HeliumConvolution
from graphopt.targets.schedules.templates.helium.depthwise import HeliumDepthwise
from graphopt.targets.schedules.templates.helium.pool import HeliumPool
from graphopt.targets.schedules.templates.helium.product import HeliumProduct

HELIUM_TEMPLATES = (HeliumDepthwise, HeliumConvolution, HeliumProduct, HeliumPool, HeliumAddition)

__all__ = ["HELIUM_TEMPLATES"]
