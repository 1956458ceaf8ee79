"""Drawing in notebooks: pictures appear in the cell while they are drawn. Nothing leaves the kernel.

    import pochade
    from pochade import notebook

    pipeline = notebook.NotebookPipeline(pochade.load())
    pipeline.txt2img("a fox, 3d style", seed=7)
    sheet = pipeline.drafts("a fox, 3d style", count=8)
    sheet.refine(3, steps=30)

Needs IPython, which every notebook has; elsewhere, `pip install 'pochade[notebook]'`.
"""

from pochade.notebook.notebook_pipeline import DisplayedResult, NotebookPipeline, Sheet

__all__ = ["DisplayedResult", "NotebookPipeline", "Sheet"]
