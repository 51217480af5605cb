"""What a person reads when the system is up."""

from django.core.management.color import Style

from helpdesk.management.demo.people import ACCOUNTS, PASSWORD


def banner(url: str, has_demo_data: bool, style: Style) -> str:
    """Where everything is, and whom to sign in as. `url`: scheme, host and port."""
    socket = url.replace("http", "ws", 1)
    lines = [
        "",
        f"  {style.SUCCESS('Helpdesk is ready.')}",
        "",
        f"  API docs    {url}/api/docs",
        f"  Admin       {url}/admin/",
        f"  Socket.IO   io('{url}')",
        f"  WebSocket   {socket}/ws/",
    ]
    if has_demo_data:
        lines += ["", f"  Sign in as  {', '.join(ACCOUNTS)}", f"  Password    {PASSWORD}"]
    return "\n".join([*lines, "", "  Ctrl-C stops everything.", ""])
