"""Files that are attached on the page of a ticket."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.admin.pages import last_event, page
from tickets.models import Attachment, Status

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


@pytest.fixture
def client(browser, agent):
    return browser(agent)


@pytest.fixture
def address(ticket) -> str:
    return page("tickets_ticket_change", ticket)


def upload(client, address: str, name: str, content: bytes, **fields):
    new_id = client.get(address).context["upload_form"]["new_id"].value()
    data = {"upload-new_id": new_id, "upload-file": SimpleUploadedFile(name, content), **fields}
    return client.post(f"{address.removesuffix('change/')}upload/", data)


def test_attach_a_file(client, address, ticket, agent):
    response = upload(client, address, "../../ev<i>l\u202egnp.exe", PNG, **{"upload-is_internal": "on"})
    attachment = Attachment.objects.get()
    assert response["Location"] == f"{address}#attachment-{attachment.pk}"
    assert (attachment.content_type, attachment.size, attachment.is_internal) == ("image/png", len(PNG), True)
    assert attachment.filename == "ev_i_lgnp.exe"
    assert attachment.uploaded_by == agent
    with attachment.file.open() as file:
        assert file.read() == PNG
    assert (last_event("attachment").actor, last_event("attachment").visibility) == (agent, "staff")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "The submitted file is empty."),
        ("big.txt", b"x" * 2000, "The file is larger than"),
        ("program.txt", b"MZ\x90\x00" + b"\0" * 100, "are not accepted"),
        ("data.txt", b"\xff\xfe\xfd\xfc", "are not accepted"),
    ],
)
def test_a_refused_file_is_explained(client, address, settings, name, content, message):
    settings.MAX_ATTACHMENT_BYTES = 1000
    response = upload(client, address, name, content)
    assert response.status_code == 400
    assert message in response.content.decode()
    assert not Attachment.objects.exists()


def test_no_file_chosen(client, address):
    new_id = client.get(address).context["upload_form"]["new_id"].value()
    response = client.post(f"{address.removesuffix('change/')}upload/", {"upload-new_id": new_id})
    assert response.status_code == 400
    assert "This field is required." in response.content.decode()


def test_too_many_attachments(client, address, settings, tmp_path):
    settings.MAX_ATTACHMENTS_PER_TICKET = 1
    assert upload(client, address, "a.png", PNG).status_code == 302
    response = upload(client, address, "b.png", PNG)
    assert response.status_code == 409
    assert "A ticket has at most 1 attachments." in response.content.decode()
    assert Attachment.objects.count() == 1
    assert len([path for path in (tmp_path / "attachments").rglob("*") if path.is_file()]) == 1


def test_a_closed_ticket_takes_no_file(client, address, ticket, tmp_path):
    client.get(address)
    new_id = client.get(address).context["upload_form"]["new_id"].value()
    ticket.status = Status.CLOSED
    ticket.save()
    data = {"upload-new_id": new_id, "upload-file": SimpleUploadedFile("a.png", PNG)}
    response = client.post(f"{address.removesuffix('change/')}upload/", data)
    assert response.status_code == 409
    assert "This ticket is closed." in response.content.decode()
    assert not Attachment.objects.exists()


def test_a_full_disk_is_explained(client, address, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("django.core.files.storage.FileSystemStorage._save", full)
    response = upload(client, address, "a.png", PNG)
    assert response.status_code == 409
    assert "The file could not be stored." in response.content.decode()
    assert not Attachment.objects.exists()


def test_a_double_click_attaches_once(client, address, tmp_path):
    new_id = client.get(address).context["upload_form"]["new_id"].value()
    for _ in range(2):
        data = {"upload-new_id": new_id, "upload-file": SimpleUploadedFile("a.png", PNG)}
        assert client.post(f"{address.removesuffix('change/')}upload/", data).status_code == 302
    assert Attachment.objects.count() == 1
    assert len([path for path in (tmp_path / "attachments").rglob("*") if path.is_file()]) == 1
