"""The dashboard's pages: HTML and charts out of what the function `show` tells. Pure, no script.

Whatever a page is given may hold anything: it is escaped where it is written, by default.
"""
