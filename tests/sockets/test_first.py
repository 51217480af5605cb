from comments.models import Comment
from .conftest import do, told

async def test_it(connect, customer, agent, ticket):
    client = await connect(customer, "tickets", "comments", f"ticket:{ticket.pk}")
    comment = await do(Comment(ticket=ticket, author=agent, content="Hi").post)
    for x in await told(client): print(x)
