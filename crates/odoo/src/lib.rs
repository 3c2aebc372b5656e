//! lifeboat-odoo
