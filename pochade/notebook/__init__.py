"""Drawing in notebooks: pictures appear in the cell while they are drawn. Nothing leaves the kernel.

    import pochade
    from pochade import notebook

    easel = notebook.Easel(pochade.load())
    easel.txt2img("a fox, 3d style", seed=7)
    sheet = easel.drafts("a fox, 3d style", count=8)
    sheet.refine(3, steps=30)

Needs IPython, which every notebook has; elsewhere, `pip install 'pochade[notebook]'`.
"""

from pochade.notebook.easel import DisplayedResult, Easel, Sheet

__all__ = ["DisplayedResult", "Easel", "Sheet"]
