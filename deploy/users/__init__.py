"""What is held about one user: counted, told in full, and erased.

`holdings` says where it is, `exporting` tells all of it, `erasing` takes what is personal out. What is append-only is
changed by functions of the migrations alone (`0005_personal_data.py` of the journal, the verifier and the ledger,
`0003_personal_data.py` of the notifier), which have no right to change anything else.
"""
