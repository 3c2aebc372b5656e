from odoo import fields, models


class SaleOrder(models.Model):
    _inherit = "sale.order"

    lifeboat_note_ids = fields.One2many("lifeboat.testbed.note", "order_id")
