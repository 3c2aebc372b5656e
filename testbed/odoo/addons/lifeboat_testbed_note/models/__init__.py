from . import note, sale_order
