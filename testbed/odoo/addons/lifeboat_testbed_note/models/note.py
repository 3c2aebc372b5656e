from odoo import fields, models


class LifeboatTestbedNote(models.Model):
    _name = "lifeboat.testbed.note"
    _description = "Lifeboat testbed note"

    name = fields.Char(required=True)
    body = fields.Text()
    order_id = fields.Many2one("sale.order", ondelete="cascade")
    document = fields.Binary(attachment=True)
