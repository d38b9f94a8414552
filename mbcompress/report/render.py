def render_html(report): return "todo"
def render_markdown(report): return "todo"
