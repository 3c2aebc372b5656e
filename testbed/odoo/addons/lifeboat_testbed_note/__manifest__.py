{
    "name": "Lifeboat testbed note",
    "summary": "One model of our own, so that a lost addon is a real fault",
    "version": "19.0.1.0.0",
    "category": "Hidden",
    "license": "LGPL-3",
    "author": "Lifeboat",
    "depends": ["sale"],
    "data": [
        "security/ir.model.access.csv",
        "data/note.xml",
    ],
    "installable": True,
}
