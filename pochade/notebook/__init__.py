"""Drawing in a notebook: pictures appear in the cell while they are drawn. Nothing leaves its kernel.

    import pochade
    from pochade import notebook

    easel = notebook.Easel(pochade.load())
    easel.txt2img("a fox, 3d style", seed=7)
    sheet = easel.drafts("a fox, 3d style", count=8)
    sheet.refine(3, steps=30)

Needs IPython, which every notebook has; `pip install 'pochade[notebook]'` elsewhere.
"""

from pochade.notebook.easel import DisplayedResult, Easel, Sheet

__all__ = ["DisplayedResult", "Easel", "Sheet"]
